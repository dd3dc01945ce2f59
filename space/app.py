"""The demo page of robust_hub as a Space, or on any machine that has this folder: python app.py."""

import contextlib
import os
import threading

from robust_hub.app.serve import serve

HOST = os.environ.get("GRADIO_SERVER_NAME", "0.0.0.0")
PORT = int(os.environ.get("GRADIO_SERVER_PORT", "7860"))

if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt), serve(host=HOST, port=PORT) as address:
        print(f"{address} (Ctrl-C ends it)", flush=True)
        threading.Event().wait()
