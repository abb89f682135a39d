"""``spice plan=true``: what a job or a sweep would take, before any of it is run."""
