"""The emulator: an HTTP server on loopback that has the providers' wire formats, for `prx demo` and for recordings.

It is not a language model, and says so. It streams, calls tools, tells the size of pictures, shows reasoning,
refuses requests as its persona requires, and gives 404 for models that only the Responses API has.
"""
