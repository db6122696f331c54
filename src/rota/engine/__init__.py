"""The engine: per app one loop that observes, decides, writes down and acts; policy is core's, the world is ports'."""
