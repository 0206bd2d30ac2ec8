require('./action.js').run('post')
