"""What runs inside a container of Modal's: a launch as text in, everything else by the volume."""
