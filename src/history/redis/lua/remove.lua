-- Removes events of some topics, at most so many together.
--
-- KEYS: 8 and on, the streams of the topics.
-- ARGV: 8 how many events at most; then for each topic its name, and from and up to which number.

local log = enter()
local left, removed = tonumber(ARGV[8]), 0
for n = 1, #KEYS - OWN_KEYS do
  if left > 0 then
    local name, from, upto = unpack(ARGV, 6 + 3 * n, 8 + 3 * n)
    local count = remove(log, name, KEYS[OWN_KEYS + n], left, from, upto)
    left, removed = left - count, removed + count
  end
end
save(log)
return { values_of(log), removed }
