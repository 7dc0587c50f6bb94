"""Webhooks: what happens to jobs, told to addresses that users name, as Standard Webhooks wants it.

A message is a row, written in the transaction of the event that it tells of (``outbox``): neither is there
without the other. Every API process sends what is due (``deliverer``); a crash between sending and recording
sends the same message, with the same id, once more.
"""
