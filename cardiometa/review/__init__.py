"""``cardiometa review``: a local server and a page on which readers check and edit contours."""
