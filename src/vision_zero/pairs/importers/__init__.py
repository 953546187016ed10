"""Published sets, and any pictures that lie in pairs somewhere. Readers give pairs, and in place of bad ones why."""
