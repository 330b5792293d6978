"""Generated from proto/ by python/generate.sh; do not edit."""
