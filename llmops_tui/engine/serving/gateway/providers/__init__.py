"""Upstreams elsewhere: a provider is asked in its own words, and answers in OpenAI's.

chat.py (what was asked, and OpenAI's shapes) -> anthropic.py, gemini.py, compatible.py (one API each, pure) -> translating.py (an answer on
its way) and provider.py (an upstream with a key). What an API cannot be asked is refused; nothing is silently answered differently, but for
sampling settings that an API does not know, which are left out.
"""
