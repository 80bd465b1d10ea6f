-- Removes events of some topics, at most so many together.
--
-- KEYS: 8 and on, the streams of the topics.
-- ARGV: 8 how many events at most; then for each topic its name and up to which number.

local log = enter()
local left, removed = tonumber(ARGV[8]), 0
for n = 1, #KEYS - OWN_KEYS do
  if left > 0 then
    local count = remove(log, ARGV[7 + 2 * n], KEYS[OWN_KEYS + n], left, ARGV[8 + 2 * n])
    left, removed = left - count, removed + count
  end
end
save(log)
return { values_of(log), removed }
