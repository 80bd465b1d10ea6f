-- Takes or keeps a turn; whether it is this node's.
--
-- KEYS: 1 what holds the name of the node. ARGV: 1 the name of this node, 2 for how many milliseconds.
--
-- It has no flags, which an application's own Redis before version 7 does not know. A server that is out of
-- memory refuses what such a script does up to its first write; that one takes no memory, so the next may.

local key, node, lease = KEYS[1], ARGV[1], tonumber(ARGV[2])
local left = redis.call('PTTL', key)
-- A turn that was given by a clock that was ahead lasts no longer than any other.
if left < 0 or left > lease then left = lease end
redis.call('PEXPIRE', key, math.max(left, 1))
local holder = redis.call('GET', key)
if holder and holder ~= node then return 0 end
redis.call('SET', key, node, 'PX', lease)
return 1
