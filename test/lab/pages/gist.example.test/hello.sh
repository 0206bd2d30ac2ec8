echo "hello from elsewhere"
