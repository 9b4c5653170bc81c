"""Speed and memory, side by side in one run. `make bench` prints the table that `docs/performance.md` keeps."""
