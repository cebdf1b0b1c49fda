"""kubectl's words and columns over the lab's own store: parsing its command line, printing what it would print."""
