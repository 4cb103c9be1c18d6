"""cardiometa: individual-participant-data meta-analysis of cardiac MRI."""
