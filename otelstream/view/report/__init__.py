"""The capture as one HTML file that needs nothing else, to attach to a ticket."""
