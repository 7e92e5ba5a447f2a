local h, why = open()
if not h then return {why} end
local answer, slices = {'ok', head(h)}, call('HGETALL', S)
for i = 1, #slices, 2 do
  local n = call('HLEN', list(slices[i]))
  if n > 0 then
    answer[#answer + 1] = slices[i] .. slices[i + 1]
    answer[#answer + 1] = n
  elseif not hex(slices[i], 20) then
    return {'damaged'} -- some list has lost its name
  end
end
return answer
