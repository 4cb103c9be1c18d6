"""Label files of readers (NIfTI, DICOM SEG, contours): found and read."""
