-- The answer has three values for each list: its name and largest From, the number of its deltas, and the sizes of a sample of
-- them with commas: of all, where they are few; else of some, taken at random, fewer the more lists there are.
local h, why = open()
if not h then return {why} end
local answer, slices = {'ok', head(h)}, call('HGETALL', S)
local few = math.max(1, math.floor(32 / math.max(1, #slices)))
for i = 1, #slices, 2 do
  local key = list(slices[i])
  local n = call('HLEN', key)
  if n > 0 then
    local fields, sizes = n <= 16 and call('HKEYS', key) or call('HRANDFIELD', key, few), {}
    for j = 1, #fields do sizes[j] = call('HSTRLEN', key, fields[j]) end
    answer[#answer + 1] = slices[i] .. slices[i + 1]
    answer[#answer + 1] = n
    answer[#answer + 1] = table.concat(sizes, ',')
  elseif not hex(slices[i], 20) then
    return {'damaged'} -- some list has lost its name
  end
end
return answer
