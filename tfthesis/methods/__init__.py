"""The methods of the theses, one file each; this folder's listing is their table of contents."""
