"""What readers draw: labels in their formats, and reading packages."""
