"""What a user of dlt asks of the resources: it is done, or refused in a sentence."""
