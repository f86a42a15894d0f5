"""What many runs say together: read from their directories, grouped, compared, shown."""
