-- Presents what the node has seen, and learns how the log stands.

return values_of(enter())
