"""What everything stands on: errors, small files, processes, optional packages."""
