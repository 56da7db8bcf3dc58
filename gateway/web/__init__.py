"""What every page stands on: layout, style sheet, scripts, and what a browser may do."""
