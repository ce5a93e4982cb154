"""sluicegate: a Trio microservice that streams LLM replies, runs their tools and stops when nobody listens."""
