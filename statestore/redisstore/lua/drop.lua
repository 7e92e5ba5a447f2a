wipe()
call('UNLINK', R)
return {'ok'}
