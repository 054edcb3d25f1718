"""The app for browsers, written for a host of static files or as one HTML file."""
