"""What is measured: a file each. VENV "" is prx's own environment, IMPORT what one imports to use it; then

connect(url)   -> chat, stream
chat(text)     -> the answer's text
stream(text)   -> iterator of its pieces
"""
