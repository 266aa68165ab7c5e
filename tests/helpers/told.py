"""A provider for the tests of what is told of calls: it retries at once, and has a fallback; and its key, which is never told."""

from __future__ import annotations

KEY = "sk-never-to-be-seen-4711"
FILE = """
spec: 1
id: seen
extends: openai-chat
base_url: {url}
retry: {{times: 2, wait: 0.001}}
fallbacks:
  shorter: {{when: status == `400`, then: {{request: {{parameters: {{max_tokens: {{rename: max_completion_tokens}}}}}}}}}}
"""
