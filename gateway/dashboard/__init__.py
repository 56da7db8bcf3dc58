"""The admin billing dashboard at `/admin`: who may sign in, what they see, what they may do."""
