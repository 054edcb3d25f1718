"""Files and folders of images denoised in one run: planned as a whole, then read, denoised and written at once."""
