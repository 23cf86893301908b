"""What a person sees in a terminal; read-only, through the gateway."""
