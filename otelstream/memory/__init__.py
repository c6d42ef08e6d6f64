"""Where the process's memory is: cheap readings from inside, and their metrics."""
