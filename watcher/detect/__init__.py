"""From the file system to settled files: observe (events and scans), settle (pure), pin (the spool)."""
