-- ARGV: stage id, list and field names in one string (62 each), then the values. Nobody reads the stage but the script that
-- ends the operation under this id.
local names, args = cut(ARGV[2], 62), {}
if #names ~= #ARGV - 2 then return {'shape'} end
for i = 1, #names, 1000 do
  args = {}
  for k = i, math.min(i + 999, #names) do
    args[#args + 1] = ARGV[1] .. names[k]
    args[#args + 1] = ARGV[k + 2]
  end
  call('HSET', R, unpack(args))
end
return {'ok'}
