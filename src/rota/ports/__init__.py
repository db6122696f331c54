"""What the engine asks of the outside world: small protocols, split by client; adapters and fakes fulfil them."""
