"""A stand-in for a Valkey server that has the module valkey-search loaded.

The rule of this folder: every reply comes from a model of the module or from the plain Valkey
behind it. No recorded reply is kept here, and no module of the project is imported: a mistake
that the project makes about the server must not be repeated by the server that tests it.

`PlainValkey` starts a real Valkey without modules; `StandIn` is a proxy in front of one that
answers `FT.*` as release 1.0.2 or 1.2.1 of valkey-search does.

    resp.py      the wire protocol, RESP2 and RESP3
    release.py   what differs between the two releases, as data
    args.py      reading a command's arguments one by one
    schema.py    what FT.CREATE says
    filters.py   the language of filters
    knn.py       the clause of the nearest neighbours
    query.py     what FT.SEARCH says
    index.py     one index: documents, tags, numbers, vectors
    info.py      what FT.INFO answers
    wire.py      a connection of our own to the server behind
    mirror.py    how indexes follow the data of the server behind
    searching.py how FT.SEARCH comes to its reply
    module.py    the five FT commands
    rights.py    who may run them
    topology.py  a cluster as one of its nodes sees it
    coordinator.py  what the nodes of a cluster tell each other
    metadata.py  what a server with the module says of itself
    journal.py   what was received, and what shall go wrong
    link.py      a client's connection and its twin to the server behind
    proxy.py     who answers what
    threads.py   a thread with an event loop, in which stand-ins work
    server.py    StandIn
    plain.py     PlainValkey
    client.py    a client for the tests of all this
"""

from tests.standin.journal import Received
from tests.standin.plain import PlainValkey
from tests.standin.server import StandIn

__all__ = ["PlainValkey", "Received", "StandIn"]
