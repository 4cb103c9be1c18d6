"""Folders → series → CineStack: find, dicom, nifti, cine (geometry and time), phantom."""
