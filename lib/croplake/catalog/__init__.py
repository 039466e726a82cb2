"""The Open Images catalog: its CSV formats, its class hierarchy, its class picker."""
