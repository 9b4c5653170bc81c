"""The data plane: the way to endpoints, local sockets included."""
