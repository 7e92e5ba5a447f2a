-- KEYS 4..: the lists. ARGV: token, most bytes to answer, then for each list its field names in one string. Answers values in
-- this order, at least one, until they come to that many bytes.
local h, why = open()
if not h then return {why} end
if not has(h, ARGV[1]) then return {'refused', head(h)} end
local answer, bytes, most = {'ok', head(h)}, 0, tonumber(ARGV[2])
-- Values are read as many at once as are about an eighth of what is left, by the largest one so far.
local largest = most
for k = 4, #KEYS do
  local fields, i = cut(ARGV[k - 1], 42), 1
  while i <= #fields do
    local j = math.min(#fields, i + 99, i + math.floor((most - bytes) / 8 / largest))
    for n, v in ipairs(call('HMGET', KEYS[k], unpack(fields, i, j))) do
      if not v then return {'gone', head(h), sub(KEYS[k], -20) .. fields[i + n - 1]} end
      answer[#answer + 1] = v
      bytes = bytes + #v
      if bytes >= most then return answer end
      largest = largest == most and math.max(#v, 1) or math.max(#v, largest)
    end
    i = j + 1
  end
end
return answer
