"""The commands `expfw runs ...`: one file or folder per command."""
