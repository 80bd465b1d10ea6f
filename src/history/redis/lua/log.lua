-- What every script begins with: the log's own record, its epochs, and the channel.
--
-- KEYS: 1 log, 2 order, 3 topics, 4 lost, 5 bytes, 6 receipts, then those of the script.
-- ARGV: 1 the server's run id, 2-4 the place that the node presents (name, epoch, number; empty and 0
-- where it has none), 5 the channel, 6 a name for a new log, then those of the script.
--
-- Numbers are Lua's doubles, exact up to 2^53; a new epoch begins at the clock in microseconds, which
-- gets there in the year 2255.

local LOG, ORDER, TOPICS, LOST, BYTES, RECEIPTS = unpack(KEYS, 1, 6)
local RUN, CHANNEL = ARGV[1], ARGV[5]
local PRESENTED = { name = ARGV[2], epoch = tonumber(ARGV[3]), seq = tonumber(ARGV[4]) }
local FIELDS = {
  'name', 'epoch', 'start', 'seq', 'breach', 'floor', 'ended', 'time', 'run', 'bytes', 'spared',
}

-- How many ended epochs are remembered; a cursor of an older one is a gap.
local ENDED_EPOCHS = 32

-- How many topics without events are remembered for the number of their last removed event.
local EMPTIED_TOPICS = 10000

local function whole(number)
  return string.format('%.0f', number)
end

local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

local function load()
  local values = redis.call('HMGET', LOG, unpack(FIELDS))
  if not values[1] then return nil end
  local log = {}
  for at, field in ipairs(FIELDS) do log[field] = tonumber(values[at]) or values[at] end
  -- These may look like numbers and are none.
  log.name, log.run, log.ended = values[1], values[9], values[7]
  -- Earlier releases had none.
  log.spared = log.spared or 0
  return log
end

local function values_of(log)
  local values = {}
  for at, field in ipairs(FIELDS) do
    local value = log[field]
    values[at] = type(value) == 'number' and whole(value) or value
  end
  return values
end

local function save(log)
  local fields = {}
  for at, value in ipairs(values_of(log)) do
    fields[#fields + 1] = FIELDS[at]
    fields[#fields + 1] = value
  end
  redis.call('HSET', LOG, unpack(fields))
end

-- Tells every node of `count` events, encoded in `body`, after number `previous`.
local function tell(log, previous, count, body)
  local head = struct.pack('>Bc8I8I8I8I8I4', 1, log.name, log.epoch, log.breach, previous, log.time, count)
  redis.call('SPUBLISH', CHANNEL, head .. body)
end

-- Remembers where the epoch ended, and begins the next one above every number that was ever given.
local function begin_epoch(log, is_behind)
  local ended = {}
  local epoch = string.format('%.0f %.0f %.0f %d', log.epoch, log.start, log.seq, is_behind and 1 or 0)
  for one in string.gmatch(log.ended .. epoch, '[^;]+') do ended[#ended + 1] = one end
  while #ended > ENDED_EPOCHS do table.remove(ended, 1) end
  log.ended = table.concat(ended, ';') .. ';'
  log.epoch = math.max(log.epoch, PRESENTED.epoch) + 1
  log.start = math.max(log.seq, PRESENTED.seq, clock())
  log.seq = log.start
  log.run = RUN
end

-- A new log, or the next epoch of the one that the node knew and Redis forgot.
local function create()
  local is_known = PRESENTED.name ~= ''
  -- Where only the record is gone, numbers that stand in the streams must not come again.
  local is_used = is_known or redis.call('EXISTS', ORDER) == 1
  local start = is_used and math.max(PRESENTED.seq, clock()) or 0
  return {
    name = is_known and PRESENTED.name or ARGV[6],
    epoch = PRESENTED.epoch + 1, start = start, seq = start,
    breach = start, floor = 0, ended = '', time = 0, run = RUN, bytes = 0, spared = 0,
  }
end

-- Whether the node has seen what the log does not hold, where nobody had told of that yet.
local function claim(log)
  if PRESENTED.epoch == log.epoch and PRESENTED.seq >= log.start then return false end
  local is_remembered, is_news, ended = false, false, {}
  for epoch, start, last, broken in string.gmatch(log.ended, '(%d+) (%d+) (%d+) (%d);') do
    if tonumber(epoch) == PRESENTED.epoch then
      is_remembered = PRESENTED.seq >= tonumber(start)
      is_news = is_remembered and broken == '0' and PRESENTED.seq > tonumber(last)
      if is_news then broken = '1' end
    end
    ended[#ended + 1] = string.format('%s %s %s %s;', epoch, start, last, broken)
  end
  log.ended = table.concat(ended)
  -- An epoch of which nothing is known any more was lost whole.
  return is_news or (not is_remembered and log.breach < log.start)
end

-- The log as it is from here on: created where it is missing, in a new epoch where the server is
-- another one or has less than the node has seen.
local function enter()
  local log = load()
  if not log then
    log = create()
  else
    local is_ours = log.name == PRESENTED.name
    local is_behind = is_ours and (PRESENTED.epoch > log.epoch
      or (PRESENTED.epoch == log.epoch and PRESENTED.seq > log.seq))
    local is_news = is_ours and not is_behind and claim(log)
    if log.run ~= RUN or is_behind then
      begin_epoch(log, is_behind)
    elseif not is_news then
      return log
    end
    if is_behind or is_news then log.breach = log.seq end
  end
  save(log)
  tell(log, log.seq, 0, '')
  return log
end
