-- Tries commands in forms that change nothing: which of them the server does not have, and which it does not allow
-- this user.
--
-- KEYS: 1 a key that holds nothing, or a turn; also the name of a channel. Others are named to ask for them, too.
-- ARGV: the commands.
--
-- It has no flags, which an application's own Redis before version 7 does not know.

local key = KEYS[1]

-- What follows each command. Rights are looked at before what some of these get wrong: a number that is none, a
-- time that is over, one word too many.
local REST = {
  DEL = { key }, GET = { key }, HDEL = { key, 'f' }, HGET = { key, 'f' }, HINCRBY = { key, 'f', 'x' },
  HMGET = { key, 'f' }, HSET = { key, 'f', 'v', 'x' }, PEXPIRE = { key, 'x' }, PTTL = { key },
  SET = { key, 'v', 'PX', '0' }, SPUBLISH = { key, '' }, TIME = {}, XADD = { key, 'NOMKSTREAM', '*', 'f', 'v' },
  XDEL = { key, '0-1' }, XLEN = { key }, XRANGE = { key, '-', '+' }, XREVRANGE = { key, '+', '-' },
  ZADD = { key, 'XX', '1', 'm' }, ZCARD = { key }, ZMSCORE = { key, 'm' }, ZPOPMIN = { key },
  ZRANGE = { key, '0', '0' }, ZRANGEBYLEX = { key, '-', '+' }, ZRANGEBYSCORE = { key, '-inf', '+inf' },
  ZREM = { key, 'm' }, ZREVRANGEBYSCORE = { key, '+inf', '-inf' },
}

local REFUSALS = { 'NOPERM', "can't run this command", "can't access", "can't publish", 'No permission' }

local missing, refused = {}, {}
for _, name in ipairs(ARGV) do
  local answer = redis.pcall(name, unpack(REST[name]))
  local said = type(answer) == 'table' and answer.err or ''
  if string.find(said, 'command called from script', 1, true) then missing[#missing + 1] = name end
  for _, refusal in ipairs(REFUSALS) do
    if string.find(said, refusal, 1, true) then
      refused[#refused + 1] = name
      break
    end
  end
end
return { missing, refused }
