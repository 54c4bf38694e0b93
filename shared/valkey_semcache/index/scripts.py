"""The Lua scripts, each a single atomic step on a single key.

Rule of this file: a script touches only KEYS[1], so that it runs in a cluster, and leaves no
state between which a crash could fall.
"""

from __future__ import annotations

from valkey_semcache.flow.operations import Source

ENTRY_OPTIONAL = ("s", "b", "v")
"""Fields that only an entry met by meaning has."""

STORE = Source("""
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'hash' and kind ~= 'none' then redis.call('UNLINK', KEYS[1]) end
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
if ARGV[2] == '0' then redis.call('HDEL', KEYS[1], 's', 'b', 'v') end
if ARGV[1] == '0' then
  redis.call('PERSIST', KEYS[1])
else
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return 1
""")
"""Write an entry. ARGV: TTL in ms or 0, 1 if it has a vector or 0, then fields and values.

Fields of an earlier entry that this one lacks go; `x`, the questions rejected for these
words, stays. The expiry is the new entry's, or none.
"""

RENEW = Source("""
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then return 0 end
redis.call('HSET', KEYS[1], 'p', ARGV[2])
if ARGV[1] == '0' then
  redis.call('PERSIST', KEYS[1])
else
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return 1
""")
"""Give an entry a new answer, and leave all else of it; 0 if it is gone. ARGV: TTL in ms or 0,
the envelope."""

LOCK = Source("""
if redis.call('HSETNX', KEYS[1], 'o', ARGV[1]) == 0 then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
""")
"""Take a lock that is free. ARGV: who takes it, milliseconds until it is free again."""

UNLOCK = Source("""
if redis.call('HMGET', KEYS[1], 'o')[1] ~= ARGV[1] then return 0 end
return redis.call('UNLINK', KEYS[1])
""")
"""Free a lock, unless it is another one's by now. ARGV: who took it."""

STORE_ALIAS = Source("""
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
if ARGV[1] ~= '0' then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return 1
""")
"""Write an alias where nothing lies yet. ARGV: TTL in ms or 0, then fields and values."""

REJECT = Source("""
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then return 0 end
local known = redis.call('HMGET', KEYS[1], 'x')[1] or ''
if string.find(known, ARGV[1], 1, true) then return 1 end
if known ~= '' then known = known .. ' ' end
known = known .. ARGV[1]
redis.call('HSET', KEYS[1], 'x', known)
if #known >= tonumber(ARGV[2]) * (#ARGV[1] + 1) - 1 then
  redis.call('HDEL', KEYS[1], 's', 'b', 'v')
end
return 1
""")
"""Note a question for which an entry was rejected; 0 if there is no such entry.

ARGV: the question's text digest; how many rejections make an entry one that is no longer met
by meaning, so that what every look-up reads of it stays small.
"""

QUOTA = Source("""
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'zset' and kind ~= 'none' then redis.call('UNLINK', KEYS[1]) end
local left = redis.call('PTTL', KEYS[1])
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
if ARGV[4] == '0' then
  redis.call('PERSIST', KEYS[1])
elseif left ~= -1 and left < tonumber(ARGV[4]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
local gone = redis.call('ZRANGE', KEYS[1], 0, -1 - tonumber(ARGV[3]))
if #gone > 1000 then gone = {unpack(gone, 1, 1000)} end
if #gone > 0 then redis.call('ZREM', KEYS[1], unpack(gone)) end
return gone
""")
"""Note an entry in its tenant's list; the keys of those that are one too many, oldest first.

ARGV: the entry's key; the time; how many the tenant may have; the entry's TTL in ms or 0. The list
outlives all its entries.
"""

LEARN = Source("""
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'stream' and kind ~= 'none' then redis.call('UNLINK', KEYS[1]) end
redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'l', ARGV[3])
if ARGV[1] == '0' then
  redis.call('PERSIST', KEYS[1])
else
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return redis.call('XRANGE', KEYS[1], ARGV[4], '+', 'COUNT', ARGV[5])
""")
"""Note a label in its family's log, and return those that the caller has not read.

ARGV: TTL in ms or 0; how many labels are kept, about; the label; from which id on to read; how
many at most.
"""

LOG = Source("""
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'zset' and kind ~= 'none' then redis.call('UNLINK', KEYS[1]) end
local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')
if #last > 0 and (string.sub(last[1], 1, 1) ~= '~' or tonumber(last[2]) > 2^52) then
  redis.call('UNLINK', KEYS[1])
  last = {}
end
local token, before, left = '~' .. ARGV[1], 0, -2
if #last > 0 then
  token, before = last[1], tonumber(last[2])
  left = redis.call('PTTL', KEYS[1])
end
local now = redis.call('TIME')
local version = math.max(before + 1, tonumber(now[1]) * 1000000 + tonumber(now[2]))
local score = string.format('%.0f', version)
redis.call('ZADD', KEYS[1], score, ARGV[3], score, token)
if ARGV[2] == '0' then
  redis.call('PERSIST', KEYS[1])
elseif #last == 0 or (left >= 0 and left < tonumber(ARGV[2])) then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return {before, version}
""")
"""Note an entry in its scope's log, under the next version; the version before it, and its own.

ARGV: a token, used if the log is begun by this call; the entry's TTL in ms or 0; its text
digest. The token's member carries the newest version as its score, and since `~` sorts after
every hex digit it is always the last member; a log of which that is not so is begun anew. The
log outlives all its entries.

A version is the server's time in microseconds, or one more than the one before. A count would do
until a failover: a replica that takes over without the last writes would give the same versions
again, and who has read those of the lost writes would never read the new ones.
"""

TIDY = Source("""
local removed = 0
for i = 1, #ARGV, 2 do
  if redis.call('ZSCORE', KEYS[1], ARGV[i]) == ARGV[i + 1] then
    removed = removed + redis.call('ZREM', KEYS[1], ARGV[i])
  end
end
return removed
""")
"""Take entries that are gone out of a log, unless they were written again meanwhile.

ARGV: text digest and version, in turn.
"""

META = Source("""
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'hash' and kind ~= 'none' then redis.call('UNLINK', KEYS[1]) end
for i = 1, #ARGV, 2 do redis.call('HSETNX', KEYS[1], ARGV[i], ARGV[i + 1]) end
return 1
""")
"""Write what the cache's meta hash does not say yet. ARGV: field and value, in turn."""


BUILD = Source("""
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'hash' and kind ~= 'none' then redis.call('UNLINK', KEYS[1]) end
local said = redis.call('HMGET', KEYS[1], 'generation:' .. ARGV[1], 'building:' .. ARGV[1])
local current, building = tonumber(said[1] or '0') or 0, tonumber(said[2] or '0') or 0
if building == 0 and current <= tonumber(ARGV[2]) then
  building = current + 1
  redis.call('HSET', KEYS[1], 'building:' .. ARGV[1], string.format('%.0f', building))
end
return {current, building}
""")
"""Begin the next generation of the HNSW index, unless that was done already.

ARGV: digest of the embedding model; the generation that the caller wants replaced. Returns the
current generation, 0 for none, and the one being built, 0 for none.
"""

SWITCH = Source("""
local field = 'building:' .. ARGV[1]
if redis.call('HMGET', KEYS[1], field)[1] ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], field)
redis.call('HSET', KEYS[1], 'generation:' .. ARGV[1], ARGV[2], 'written:' .. ARGV[1], ARGV[3])
return 1
""")
"""Let the generation that was built serve; 1 for the one caller whose doing it was.

ARGV: digest of the embedding model, the generation, and how many vectors it has taken in.
"""

LOST = Source("""
local field = 'generation:' .. ARGV[1]
if redis.call('HMGET', KEYS[1], field)[1] ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], field, '0')
return 1
""")
"""Note that a generation is gone from the server. ARGV: digest of the embedding model and the
generation."""

WRITTEN = Source("""
local field = 'written:' .. ARGV[1]
local total = (tonumber(redis.call('HMGET', KEYS[1], field)[1] or '0') or 0) + tonumber(ARGV[2])
redis.call('HSET', KEYS[1], field, string.format('%.0f', total))
return total
""")
"""Add to how many vectors the HNSW index has taken in, and return it. ARGV: digest of the
embedding model, and how many."""
