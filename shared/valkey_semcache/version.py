"""The release that is installed, as `valkey_semcache.__version__`.

Rule of this file: it says what the installed package's own metadata say, and is loaded when
somebody asks.
"""

from importlib.metadata import version

__version__ = version("valkey-semcache")
