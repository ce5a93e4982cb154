"""What clients read. `native`, `ai_sdk` and `ag_ui` encode a run's events; the three provider dialects (`openai_chat`,
`openai_responses`, `anthropic_messages`) encode one reply's deltas, for the scripted provider and for endpoints that
stand in for a provider. All of `dialect`'s encoders take the same deltas, so one reply can be told on any wire.
"""
