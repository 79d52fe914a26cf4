"""Other agent libraries, one small adapter each, measured on request in environments of their own.

Where a library takes an HTTP client, agents share one, as an application would have them do: making one loads
the certificates of the system, some 25 ms, and would hide everything else about construction.
"""
