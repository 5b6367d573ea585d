"""How clients submit, watch, cancel and fetch jobs over HTTP."""
