"""Plot of the activation functions."""

from __future__ import annotations

import expfw


class ActivationPlot(expfw.Callback):
    """Plots all activation functions to `pictures/activations.png`.

    The activation function of the model is red.
    """

    @expfw.hookimpl
    def expfw_run_started(self, run: expfw.Run) -> None:
        import numpy as np
        import tensorflow as tf
        from matplotlib.figure import Figure

        from expfw_models.building_blocks import activations

        model_activation = run.config.model.get("activation")
        names = [name for name in activations.ACTIVATION_NAMES if name != "softmax"]  # needs more than one number
        x = np.linspace(-3, 3, 601, dtype=np.float32)
        figure = Figure(figsize=(10, 6), layout="constrained")
        for number, name in enumerate(names, start=1):
            axes = figure.add_subplot(2, 5, number)
            colour = "tab:red" if name == model_activation else "tab:blue"
            axes.plot(x, activations.get_activation(name)(tf.constant(x)).numpy(), color=colour, linewidth=2)
            axes.set_title(name, color=colour if name == model_activation else "black", fontsize=10)
            axes.axhline(0, color="grey", linewidth=0.5)
            axes.axvline(0, color="grey", linewidth=0.5)
            axes.set(ylim=(-1.3, 2), aspect="auto")
        (run.folder / "pictures").mkdir(exist_ok=True)
        figure.savefig(run.folder / "pictures" / "activations.png", dpi=110)
        run.add_artifact(run.folder / "pictures" / "activations.png")
