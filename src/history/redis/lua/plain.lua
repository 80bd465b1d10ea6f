-- Numbers, stores and tells a group of publishes that ask for no more than that, where nothing has to be removed for them.
--
-- Most groups are such. What a script costs is above all its functions, which are made anew for each call, and each field, key
-- and argument; so this one has none and few. It says `number time`; or nothing, and has done nothing, where the log or
-- a topic asks for more: then `publish.lua` does it, which says what all of this means.
--
-- KEYS: 1 log, 2 order, 3 topics, 4 bytes, 5 endings, then the streams of the topics that are kept.
-- ARGV: 1 the server's run id, 2 and 3 the name and the epoch that the node presents, 4 the channel, 5 numbers, 6 all events as a
-- message holds them. The numbers: the one that the node presents, the most bytes of all topics, the form of the entries, at
-- which byte of a key the name of its topic begins, how many events there are, how many topics are kept and how many events
-- of these; then for each such topic its most events, its most bytes, whether its newest event stays, how many events come
-- and what they cost; then for each such event its topic, and from and up to which byte of the events its entry stands.

-- As `log.lua` and `retention.lua` say.
local STEADY, UNSEEN = 5000, 10000
local STAYING, LEAVING = 'n', 'l'

-- What an event costs at least.
local LEAST_COST = 256

local OWN_KEYS = 5

local call, format, unpacked = redis.call, string.format, struct.unpack
local numbers, events = ARGV[5], ARGV[6]
local record = call('HMGET', KEYS[1], 'name', 'epoch', 'start', 'seq', 'breach', 'form', 'time', 'run', 'bytes', 'listed',
  'stays_bytes', 'stays_upto', 'ends_upto')
for at = 1, 13 do
  if not record[at] then return false end
end
local name, epoch, start, last, breach, form, time, run, bytes, listed, stays_bytes, stays_upto, ends_upto = unpack(record)
if name ~= ARGV[2] or epoch ~= ARGV[3] or listed ~= epoch or run ~= ARGV[1] then return false end

local presented, max_bytes, highest_form, name_at, count, topic_count, kept_count, at = unpacked('>I8I8BI2I4I2I2', numbers)
local number = tonumber(last)
if presented < tonumber(start) or presented > number or highest_form > tonumber(form) then return false end

local clock = call('TIME')
local now = clock[1] * 1000 + (clock[2] - clock[2] % 1000) / 1000
local elapsed = now - time
if elapsed > UNSEEN or elapsed < -STEADY then return false end
local new_time = elapsed > 0 and format('%d', now) or time

local names = {}
for n = 1, topic_count do names[n] = string.sub(KEYS[OWN_KEYS + n], name_at) end

local costs, indexed, added = {}, {}, 0
if topic_count > 0 then
  if ends_upto ~= '0' then
    for _, ending in ipairs(call('HMGET', KEYS[5], unpack(names))) do
      if ending then return false end
    end
  end
  local held = call('HMGET', KEYS[4], unpack(names))
  for n = 1, topic_count do
    local max_events, max_topic_bytes, stays, coming, cost
    max_events, max_topic_bytes, stays, coming, cost, at = unpacked('>I8I8BI2I4', numbers, at)
    local holds = (held[n] or 0) + cost
    if holds > max_topic_bytes then return false end
    if holds > max_events * LEAST_COST or stays_upto ~= '0' then
      local length = call('XLEN', KEYS[OWN_KEYS + n])
      if length + coming > max_events or length == 1 and stays_upto ~= '0' then return false end
    end
    costs[2 * n - 1], costs[2 * n] = names[n], format('%d', holds)
    indexed[n] = stays == 1 and STAYING or LEAVING
    added = added + cost
  end
  bytes = bytes + added
  if bytes - stays_bytes > max_bytes then return false end

  -- Nothing is left to ask for: from here on it is done.
  for n = 1, topic_count do
    if not held[n] then call('ZADD', KEYS[3], '0', names[n]) end
  end
  call('HSET', KEYS[4], unpack(costs))
end

for _ = 1, kept_count do
  local topic, from, upto
  topic, from, upto, at = unpacked('>I2I4I4', numbers, at)
  number = number + 1
  local id = format('%d-0', number)
  call('XADD', KEYS[OWN_KEYS + topic], id, 'e', string.sub(events, from, upto), 't', new_time)
  call('XADD', KEYS[2], id, indexed[topic], names[topic], 't', new_time)
end

call('SPUBLISH', ARGV[4], struct.pack('>Bc8I8I8I8I8I4', 1, name, epoch, breach, last, new_time, count) .. events)

if kept_count > 0 then
  last = format('%d', number)
  call('HSET', KEYS[1], 'seq', last, 'bytes', format('%d', bytes), 'time', new_time)
elseif new_time ~= time then
  call('HSET', KEYS[1], 'time', new_time)
end
return last .. ' ' .. new_time
